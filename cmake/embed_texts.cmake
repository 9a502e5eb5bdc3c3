# Writes OUTPUT, a C++ file that defines NAMESPACE::FUNCTION(), a span of {name, text} with every file that GLOB names.
include(${CMAKE_CURRENT_LIST_DIR}/quote_text.cmake)
file(GLOB files ${GLOB})
list(SORT files)
set(entries "")
foreach(file ${files})
  quote_file(${file} text)
  get_filename_component(name ${file} NAME)
  string(APPEND entries "    {\"${name}\", ${text}},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\nnamespace {\nconstexpr EmbeddedText texts[] = {\n${entries}};\n}  // namespace\n
std::span<const EmbeddedText> ${FUNCTION}() {\n  return texts;\n}\n}  // namespace ${NAMESPACE}\n")
