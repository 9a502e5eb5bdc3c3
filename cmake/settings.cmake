# Compiler settings shared by every target, and the helpers that declare libraries, programs and tests.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")  # line tables are enough for a backtrace and halve the link time
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")  # what is instrumented, too, has to end within the tests' deadlines

set(AGENTVM_TEST_OPTIONS $<$<CONFIG:RelWithDebInfo>:-O1> $<$<CONFIG:RelWithDebInfo>:-g0>)

set(AGENTVM_BIN_DIR ${CMAKE_BINARY_DIR}/bin)
set(AGENTVM_LIBEXEC_DIR ${CMAKE_BINARY_DIR}/libexec/agentvm)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

add_library(agentvm_settings INTERFACE)
target_include_directories(agentvm_settings INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(agentvm_settings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
  $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess -Wno-psabi> -fstack-protector-strong
  # GCC 13 and 14 take a reference into an argument for one into a temporary that was another argument.
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_GREATER_EQUAL:$<CXX_COMPILER_VERSION>,13>>:-Wno-dangling-reference>)
target_compile_definitions(agentvm_settings INTERFACE AGENTVM_VERSION="${PROJECT_VERSION}"
  $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2> BOOST_ASIO_NO_DEPRECATED)
if(AGENTVM_WERROR)
  target_compile_options(agentvm_settings INTERFACE -Werror)
endif()
if(AGENTVM_SANITIZE)
  target_compile_definitions(agentvm_settings INTERFACE AGENTVM_SANITIZED)
  target_compile_options(agentvm_settings INTERFACE -fsanitize=${AGENTVM_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(agentvm_settings INTERFACE -fsanitize=${AGENTVM_SANITIZE})
  # LLVM 14 cannot mark the parts of a coroutine with their types ("a difference across sections").
  target_compile_options(agentvm_settings INTERFACE $<$<CXX_COMPILER_ID:Clang>:-fno-sanitize=function>)
  if(AGENTVM_SANITIZE STREQUAL thread)
    # Asio's headers hold fences, which GCC says it cannot follow; and instrumented, it mistakes the buffer of a short
    # std::string for the string, an empty optional for a value that was not set, and a frame's allocation for another's.
    # The plain build has these warnings.
    target_compile_options(agentvm_settings INTERFACE "$<$<CXX_COMPILER_ID:GNU>:-Wno-tsan;-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread;-Wno-restrict;-Wno-maybe-uninitialized;-Wno-mismatched-new-delete>")
  endif()
endif()
if(AGENTVM_FUZZ)
  target_compile_options(agentvm_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_link_options(agentvm_settings INTERFACE -Wl,--as-needed)

# Eight files of a library at a time, for whoever wants it built and not worked on: templates are instantiated once for them. What a
# file has in its own namespace must not be in another one's then, or calls go astray; those that share such a name are listed as ALONE
# (tests/style/check_groups.py looks for them).
option(AGENTVM_UNITY "Compile the libraries' sources in groups" OFF)

# agentvm_library(NAME SOURCES a.cpp ... [ALONE b.cpp ...] LINK public-libs ... PRIVATE private-libs ...): a static library, alias agentvm::NAME.
function(agentvm_library name)
  cmake_parse_arguments(ARG "NO_PCH" "" "SOURCES;ALONE;LINK;PRIVATE" ${ARGN})
  add_library(agentvm_${name} STATIC ${ARG_SOURCES} ${ARG_ALONE})
  add_library(agentvm::${name} ALIAS agentvm_${name})
  target_link_libraries(agentvm_${name} PUBLIC agentvm_settings ${ARG_LINK} PRIVATE ${ARG_PRIVATE})
  if(NOT ARG_NO_PCH)
    agentvm_use_pch(agentvm_${name})
  endif()
  agentvm_group_sources(agentvm_${name} "${ARG_ALONE}")
endfunction()

# Does what AGENTVM_UNITY says, with all but `alone`.
function(agentvm_group_sources target alone)
  if(NOT AGENTVM_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  set_source_files_properties(${alone} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  # What is in a file's own namespace is none of a header's here, whatever the compiler takes the file for.
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endfunction()

# agentvm_program(NAME bin|libexec SOURCES ... LINK ...)
function(agentvm_program name where)
  cmake_parse_arguments(ARG "NO_PCH" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE agentvm_settings ${ARG_LINK})
  if(where STREQUAL bin)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${AGENTVM_BIN_DIR})
    install(TARGETS ${name} RUNTIME DESTINATION bin)
  else()
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${AGENTVM_LIBEXEC_DIR})
    install(TARGETS ${name} RUNTIME DESTINATION libexec/agentvm)
  endif()
  if(NOT ARG_NO_PCH)
    agentvm_use_pch(${name})
  endif()
endfunction()

# What `checks` builds: every test program, none of them part of the default target (an installation needs none).
add_custom_target(checks)

# agentvm_test(NAME label SOURCES ... [ALONE ...] LINK ... [TIMEOUT s] [NEEDS_IMAGE]): one gtest program, one ctest entry with that label (unit, contract,
# fault). NEEDS_IMAGE: runs alone, after the fixture that builds a guest image, whose folder is in the environment as AGENTVM_TEST_IMAGE.
function(agentvm_test name label)
  cmake_parse_arguments(ARG "NEEDS_IMAGE" "TIMEOUT" "SOURCES;ALONE;LINK" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES} ${ARG_ALONE})
  add_dependencies(checks ${name})
  target_link_libraries(${name} PRIVATE agentvm_settings ${ARG_LINK} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  agentvm_use_test_pch(${name})
  agentvm_group_sources(${name} "${ARG_ALONE}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(AGENTVM_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 5")  # that much slower they are
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${ARG_TIMEOUT})
  if(ARG_NEEDS_IMAGE)
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED "image;places"
      ENVIRONMENT AGENTVM_TEST_IMAGE=${CMAKE_BINARY_DIR}/test-data/image)
  endif()
endfunction()

# agentvm_fuzz(NAME SOURCES ... LINK ...): a libFuzzer target with its corpus in the folder corpus/ beside it. With AGENTVM_FUZZ it searches
# for a minute; without, it replays the corpus and mutations of it from a fixed seed. Label fuzz.
function(agentvm_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  add_dependencies(checks ${name})
  target_link_libraries(${name} PRIVATE agentvm_settings ${ARG_LINK})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  agentvm_use_pch(${name})
  set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus)
  if(AGENTVM_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz/${name})
    add_test(NAME fuzz.${name} COMMAND ${name} -max_total_time=60 -timeout=10 -rss_limit_mb=2048 ${CMAKE_BINARY_DIR}/fuzz/${name} ${corpus})
  else()
    if(NOT TARGET fuzz_main)
      add_library(fuzz_main OBJECT EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/support/fuzz_main.cpp)
      target_link_libraries(fuzz_main PRIVATE agentvm_settings)
    endif()
    target_link_libraries(${name} PRIVATE fuzz_main)
    add_test(NAME fuzz.${name} COMMAND ${name} ${corpus})
  endif()
  set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 180)
endfunction()

# One precompiled header (standard library, fmt, json) for what runs on the host, and one more for its tests.
function(agentvm_use_pch target)
  agentvm_reuse_pch(${target} agentvm_pch cmake/pch.hpp)
endfunction()

# Tests: GoogleTest is in the header, and they are optimized less, which takes much of their compiler's time away.
function(agentvm_use_test_pch target)
  agentvm_reuse_pch(${target} agentvm_test_pch cmake/test_pch.hpp)
endfunction()

function(agentvm_reuse_pch target pch header)
  if(NOT TARGET ${pch})
    file(WRITE ${CMAKE_BINARY_DIR}/pch/pch.cpp "")
    add_library(${pch} STATIC EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/pch/pch.cpp)
    target_link_libraries(${pch} PUBLIC agentvm_settings fmt::fmt nlohmann_json::nlohmann_json)
    if(pch STREQUAL agentvm_test_pch)
      target_link_libraries(${pch} PUBLIC GTest::gmock)
      target_compile_options(${pch} PRIVATE ${AGENTVM_TEST_OPTIONS})
    endif()
    target_precompile_headers(${pch} PRIVATE ${CMAKE_SOURCE_DIR}/${header})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${pch})
  if(pch STREQUAL agentvm_test_pch)
    target_compile_options(${target} PRIVATE ${AGENTVM_TEST_OPTIONS})
  endif()
  get_target_property(kind ${target} TYPE)
  if(kind STREQUAL EXECUTABLE)  # CMake would say -fPIE here, and GCC refuses a header compiled with -fPIC
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()
