#pragma once
// What nearly every test includes beside that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cmake/pch.hpp"
