# The text of FILE as a raw string of C++. Raw string literals end at a marker; text that holds the marker, or that is longer than
# compilers must accept, is refused.
function(quote_file file result)
  file(READ ${file} text)
  string(LENGTH "${text}" length)
  string(FIND "${text}" ")agentvm\"" marker)
  if(NOT marker EQUAL -1 OR length GREATER 60000)
    message(FATAL_ERROR "${file} cannot be embedded")
  endif()
  set(${result} "R\"agentvm(${text})agentvm\"" PARENT_SCOPE)
endfunction()
