"""Ends the making of an image's environment: installs this project, removes what never runs, compiles what stays.

Runs once, in the build, with the environment's own Python. What it removes is named and why; a library that is needed
after all is missed by the end-to-end test of the images, not by a user: nothing here is removed by its size alone.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Headers, sources and types serve compilers and editors; tests serve those who wrote the library. PyArrow: Flight is its
# RPC, and its own S3 client is not the one we use (s3fs); the two are half of it. Its libraries come up to three times, as
# a wheel cannot hold links: the loader asks for the name with the ABI's number alone.
NEVER_RUN = (
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/tests",
    "pyarrow/*flight*",
    "pyarrow/_s3fs*",
    "pyarrow/libarrow_s3*",
    "pyarrow/libarrow_python*.so",
    "pyarrow/libarrow_python*.so.*.*.*",
    "numpy/f2py",
    "numpy/**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.c",
    "**/*.h",
)
# botocore describes every service of Amazon; the S3 client and the credential chain ask these.
BOTOCORE_DATA = {"s3", "sso", "sso-oidc", "signin", "sts"}
INSTALLERS = ("setuptools", "pip")


def main() -> None:
    """In this order: what is installed by pip has to be there before pip goes."""
    site = Path(sysconfig.get_path("purelib"))
    _run("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", ".")
    for pattern in NEVER_RUN:
        for path in sorted(site.glob(pattern)):
            _remove(path)
    for path in (site / "botocore" / "data").glob("*/"):
        if path.name not in BOTOCORE_DATA:
            _remove(path)
    _run("pip", "uninstall", "--quiet", "--yes", *INSTALLERS)
    compileall.compile_dir(
        site, quiet=1, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, force=True
    )


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], check=True)  # noqa: S603 - the build's own words


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
