"""Says in one line what a script beside this lacks, instead of failing halfway."""

import importlib.util
import shutil


def require(parser, kiln, packages, install):
    """Ends with a usage error unless the binary and the packages are there; `install` says how to get them."""
    if shutil.which(kiln) is None:
        parser.error(f"there is no program `{kiln}`: build it with `cargo build --release`, or say where it is")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        parser.error(f"the package {' and '.join(missing)} is missing: {install}")
