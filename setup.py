"""The one thing that pyproject.toml cannot say yet: the optional C extension of the coder `max`.

Without a C compiler the package installs all the same, and `max` says that it is missing.
"""

import os

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "diffcodec.coders.max._mixing",
            ["diffcodec/coders/max/_mixing.c"],
            depends=[
                "diffcodec/coders/max/_mixing_range.h",
                "diffcodec/coders/max/_mixing_sparse.h",
                "diffcodec/coders/max/_mixing_streams.h",
                "diffcodec/coders/max/_mixing_tables.h",
            ],
            # No -march: wheels run everywhere, and the integers are the same without.
            extra_compile_args=["-O3"] if os.name == "posix" else [],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
