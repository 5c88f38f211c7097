"""What `cmake --install` puts somewhere works from there, for a project that knows only that place."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1800)  # the first test of a kind builds the library

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = [f"-DCMAKE_{language}_COMPILER_LAUNCHER=ccache" for language in ("C", "CXX")] if shutil.which("ccache") else []


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def configure_and_build(source, build, *arguments):
    run("cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *LAUNCHER, *arguments)
    run("cmake", "--build", build)


@pytest.fixture(scope="module", params=["static", "shared"])
def prefix(request, tmp_path_factory):
    build = ROOT / "build" / f"install-{request.param}"
    shared = "ON" if request.param == "shared" else "OFF"
    configure_and_build(ROOT, build, "-DALNAIR_TESTS=OFF", "-DALNAIR_EXAMPLES=OFF", "-DALNAIR_WERROR=ON",
                        f"-DBUILD_SHARED_LIBS={shared}")
    where = tmp_path_factory.mktemp(request.param) / "prefix"
    run("cmake", "--install", build, "--prefix", where)
    return where


@pytest.fixture
def objects(tmp_path):
    folder = tmp_path / "objects"
    folder.mkdir()
    for name, content in {"a": b"\x01\x02", "b": b"\x03", "c": b""}.items():
        (folder / name).write_bytes(content)
    return f"file://{folder}"


def own_environment(tmp_path):
    return {**os.environ, "ALNAIR_CACHE_DIR": str(tmp_path / "cache"), "ALNAIR_MEMORY_DIR": str(tmp_path / "memory")}


def test_a_project_elsewhere_finds_links_and_uses_the_library(prefix, objects, tmp_path):
    consumer = shutil.copytree(ROOT / "tests/install/consumer", tmp_path / "consumer")
    configure_and_build(consumer, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    output = run(tmp_path / "build/consumer", objects, env=own_environment(tmp_path))
    assert output == "3 objects, sum 6\n"


def test_the_example_builds_against_the_installed_library(prefix, objects, tmp_path):
    example = shutil.copytree(ROOT / "examples/cpp", tmp_path / "example")
    configure_and_build(example, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    output = run(tmp_path / "build/read_dataset", objects, env=own_environment(tmp_path))
    assert "3 objects" in output


def test_a_project_around_it_keeps_its_own_settings(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(f"""
        cmake_minimum_required(VERSION 3.22)
        project(around LANGUAGES CXX)
        add_subdirectory("{ROOT}" alnair)
        if(NOT TARGET alnair::alnair OR CMAKE_BUILD_TYPE OR CMAKE_CXX_STANDARD OR TARGET alnair_core_tests)
          message(FATAL_ERROR "build type '${{CMAKE_BUILD_TYPE}}', C++ '${{CMAKE_CXX_STANDARD}}'")
        endif()
    """)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "a build", "-G", "Ninja")
    assert "CMAKE_BUILD_TYPE:STRING=\n" in (tmp_path / "a build" / "CMakeCache.txt").read_text()
    assert "-O2" in (tmp_path / "a build" / "build.ninja").read_text()


def test_another_minor_version_is_refused(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(other LANGUAGES CXX)\nfind_package(alnair 0.99 CONFIG REQUIRED)\n")
    result = subprocess.run(["cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"],
                            capture_output=True, text=True)
    assert result.returncode != 0 and "0.99" in result.stderr


def test_only_public_headers_are_installed(prefix):
    installed = {str(path.relative_to(prefix / "include")) for path in prefix.glob("include/**/*.h")}
    public = {str(path.relative_to(ROOT / "include")) for path in ROOT.glob("include/**/*.h")}
    assert installed == public


def test_each_public_header_stands_alone(prefix, tmp_path):
    for header in sorted(prefix.glob("include/**/*.h")):
        source = tmp_path / "alone.cc"
        source.write_text(f"#include <{header.relative_to(prefix / 'include')}>\n")
        run("c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", prefix / "include", source)
