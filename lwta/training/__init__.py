"""Training and evaluation of networks with competition; timm is loaded once a network is trained."""

from lwta.images import Images, open_images
from lwta.support.processes import Group
from lwta.training.batches import Batches, LoadedBatches, TensorBatches, crop_and_flip, make_batches
from lwta.training.evaluation import Evaluation, evaluate
from lwta.training.recipes import RECIPES, Recipe, find_recipe
from lwta.training.run import Training, train

__all__ = [
    "RECIPES",
    "Batches",
    "Evaluation",
    "Group",
    "Images",
    "LoadedBatches",
    "Recipe",
    "TensorBatches",
    "Training",
    "crop_and_flip",
    "evaluate",
    "find_recipe",
    "make_batches",
    "open_images",
    "train",
]
