# Writes OUTPUT, a C++ file that defines NAMESPACE::FUNCTION(), a span of {name, text} with every file that GLOB names.
# Raw string literals end at a marker; text that holds the marker, or that is longer than compilers must accept, is refused.
file(GLOB files ${GLOB})
list(SORT files)
set(entries "")
foreach(file ${files})
  file(READ ${file} text)
  string(LENGTH "${text}" length)
  string(FIND "${text}" ")agentvm\"" marker)
  if(NOT marker EQUAL -1 OR length GREATER 60000)
    message(FATAL_ERROR "${file} cannot be embedded")
  endif()
  get_filename_component(name ${file} NAME)
  string(APPEND entries "    {\"${name}\", R\"agentvm(${text})agentvm\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\nnamespace {\nconstexpr EmbeddedText texts[] = {\n${entries}};\n}  // namespace\n
std::span<const EmbeddedText> ${FUNCTION}() {\n  return texts;\n}\n}  // namespace ${NAMESPACE}\n")
