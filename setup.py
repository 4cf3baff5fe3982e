"""What a wheel consists of; everything else stands in pyproject.toml.

The library is ``omnithink_pl``. What lies beside it in the repository, ``main.py``, ``callbacks/`` and ``configs/``, is
installed as the package ``omnithink``: a package of the name ``callbacks`` would get in the way of others'.
"""

from setuptools import find_packages, setup

setup(
    script_name="setup.py",  # left out of the package, whatever front end builds it
    packages=[*find_packages(include=["omnithink_pl", "omnithink_pl.*"]), "omnithink", "omnithink.callbacks"],
    package_dir={"omnithink": ".", "omnithink.callbacks": "callbacks"},
)
