"""Builds the native engine; all metadata stands in setup.cfg. SANITIZE=1 in the environment: one that looks
for bad accesses and undefined behaviour, for tests.fuzz.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-O2", "-g", "-Wall", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-sign-compare"]
LINK = []
if os.environ.get("SANITIZE") == "1":
    LINK = ["-fsanitize=address,undefined"]
    FLAGS += [*LINK, "-fno-sanitize=alignment", "-fno-omit-frame-pointer"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "targetplugin.engine.core",
                ["targetplugin/engine/core.pyx"],
                libraries=["z"],
                extra_compile_args=FLAGS,
                extra_link_args=LINK,
            ),
            Extension(
                "targetplugin.engine.executor",
                ["targetplugin/engine/executor.pyx"],
                libraries=["uring", "z"],
                extra_compile_args=FLAGS,
                extra_link_args=LINK,
            ),
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    )
)
