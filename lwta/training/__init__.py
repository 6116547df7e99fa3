"""Training and evaluation of networks with competition; needs timm once a network is trained."""

from lwta.images import Images, open_images
from lwta.processes import Share
from lwta.training.evaluation import Evaluation, evaluate
from lwta.training.loaders import Batches, LoadedBatches, TensorBatches, crop_and_flip, make_batches
from lwta.training.recipes import RECIPES, Recipe, find_recipe
from lwta.training.train import Training, train

__all__ = [
    "RECIPES",
    "Batches",
    "Evaluation",
    "Images",
    "LoadedBatches",
    "Recipe",
    "Share",
    "TensorBatches",
    "Training",
    "crop_and_flip",
    "evaluate",
    "find_recipe",
    "make_batches",
    "open_images",
    "train",
]
