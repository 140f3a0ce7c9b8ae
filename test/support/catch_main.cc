// SPDX-License-Identifier: MIT
// The main of every unit test program under Catch2 2; Catch2 3 brings its own.
#ifndef MOLTFS_CATCH2_V3
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
