"""Packaging of lwta: `lwta/kernels` and `lwta/dissection` are links to the top-level folders of those names."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="lwta",
    version="0.1.0",
    description="Vision networks that can be read: stochastic Local Winner-Takes-All layers and their dissection",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["lwta", "lwta.*"]),
    package_data={
        "lwta": ["py.typed"],
        "lwta.dissection.words": ["tiny/*"],
        "lwta.dissection.pages": ["templates/*", "static/*"],
    },
    install_requires=[
        "torch>=2.11",
        "triton>=3.6; platform_system == 'Linux'",
        "open_clip_torch",
        "torchvision",
        "timm",
        "numpy",
        "safetensors",
        "tqdm",
        "Pillow",
        "Jinja2",
    ],
    extras_require={
        "demo": ["scikit-learn"],
        "scores": ["sentence-transformers"],
        "tensorboard": ["tensorboard"],
        "test": ["pytest", "pytest-benchmark", "hypothesis", "ruff", "mypy", "scikit-learn"],
    },
    entry_points={"console_scripts": ["lwta = lwta.cli:main"]},
)
