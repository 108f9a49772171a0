"""Builds the native engine; all metadata stands in setup.cfg."""

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-O2", "-g", "-Wall", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-sign-compare"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "targetplugin.engine.core",
                ["targetplugin/engine/core.pyx"],
                libraries=["z"],
                extra_compile_args=FLAGS,
            ),
            Extension(
                "targetplugin.engine.executor",
                ["targetplugin/engine/executor.pyx"],
                libraries=["uring", "z"],
                extra_compile_args=FLAGS,
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
