"""Result of a dissection, which `dissect` and `open_store` return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from lwta.dissection.atlas import write_atlas
from lwta.dissection.explaining import Explained, Explanation, explain
from lwta.dissection.labels.audit import Audit, audit
from lwta.dissection.labels.naming import Naming
from lwta.dissection.labels.search import Found, search
from lwta.dissection.scoring.scores import Scores, score
from lwta.dissection.similarity import Similarity


class Dissection(Naming):
    """Dissection of a network: its neurons and their names.

    `lwta.dissection.dissect` makes it, or `lwta.dissection.open_store` from what that recorded. It keeps the recording,
    so other concepts and similarities need no second pass over the images: see `relabel`.

    Example:
        >>> from PIL import Image
        >>> probe = [(colour, Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue")]
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> dissection = dissect(network, "2", probe, clip=embeddings, concepts=embeddings.concepts,
        ...                      abstain=False, transform=torchvision.transforms.ToTensor(), progress=False)
        >>> dissection.labels("2")[0].concept, dissection.dead("2"), dissection.top_images("2", 0)
        ('a red thing', [1], [('red', 1.0)])
    """

    def explain(
        self,
        image: Image.Image,
        *,
        layers: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        target: int | str | None = None,
        versus: int | str | None = None,
        draws: int = 1,
        seed: int = 0,
    ) -> Explanation:
        """Explain the prediction on one image: which neurons were active, and what each contributed to a class.

        The contribution of a neuron is its attribution by activation × gradient: its output times the gradient of the
        class's logit with respect to that output. `lwta.dissection.explain` does the same with any network given to it.

        Args:
            image: PIL image, which the preprocessing of the dissection turns into the network's input.
            layers: some of `layers`; None for all. Activations and contributions are those of the layer's output,
                whatever function of it was dissected.
            class_names: C names of the classes; None for those that a network of `lwta.create_model` carries, or
                numbers.
            target: index or name of the class to explain; None for the one that is predicted.
            versus: index or name of another class: the contributions are then to the difference of the two logits.
            draws: how often the winners are drawn, at least 1. Probabilities are averaged over the draws; the neurons
                and contributions are those of the first draw.
            seed: seed of the draws, at least 0.

        Raises:
            ValueError: the dissection was opened from a store, without the network; a layer was not dissected, there
                are not as many names as classes, ``target`` or ``versus`` is none of them or both are the same, or
                ``draws`` is below 1.
            TypeError: ``image`` is not a PIL image, or the model does not return logits (1, C).
        """
        if self.model is None:
            raise ValueError(
                "explaining takes the network, and a store holds none: call lwta.dissection.explain with it"
            )
        return explain(
            self.model,
            image,
            self,
            layers=layers,
            class_names=class_names,
            target=target,
            versus=versus,
            draws=draws,
            seed=seed,
        )

    def to_report(
        self,
        folder: str | Path,
        *,
        title: str = "What the neurons stand for",
        top: int = 6,
        explained: Sequence[Explained] = (),
        progress: bool = True,
    ) -> Path:
        """Write the atlas: a folder of static pages with an overview, and a page for each layer and explained image.

        It opens from disk and needs no network. A run that was interrupted is simply repeated.

        Args:
            folder: folder to write into; it is made if it is not there.
            title: heading of the overview.
            top: number of images to show for each neuron, at least 1.
            explained: images with their explanations, for pages of their own.
            progress: show a progress bar if there are more than 200 thumbnails.

        Returns:
            The path of the overview, ``folder/index.html``.

        Raises:
            ValueError: ``top`` is below 1.
            OSError: a file cannot be written.
        """
        return write_atlas(self, folder, title=title, top=top, explained=explained, progress=progress)

    def scores(
        self,
        class_names: Sequence[str] | None = None,
        output_layer: str | None = None,
        similarity: str | Callable[[], Similarity] | None = None,
        others: Mapping[str, Naming] | None = None,
        controls: bool = True,
    ) -> Scores:
        """Score the dissection: how readable every layer is, and how well the output neurons are identified.

        Beside the figures of every layer stand those of controls, to compare them with: its activations
        shuffled over the images, its neurons under the words of others, and its activations in a random basis.

        Args:
            class_names: names of the output neurons, in their order; None for those that a network of
                `lwta.create_model` carries, if it does.
            output_layer: the layer they belong to; None for the last one without competition of as many neurons.
            similarity: labeler of the controls; None for that of the dissection with its default parameters, so give
                your own if you have changed any.
            others: further dissections of the same layers to compare with, by name, such as of the untrained network:
                see `lwta.models.untrained`.
            controls: put controls beside the layers. They take about twice the time of labelling the layers; without
                them figures are quick to be had, and less can be read from them.

        Raises:
            ValueError: ``output_layer`` was not dissected, is given without names or has another number of neurons,
                the similarity is not one of the library's and must be given, or there are ``others`` without controls.
        """
        return score(self, class_names, output_layer, similarity, others, controls)

    def search(
        self,
        text: str,
        n: int = 10,
        layers: Sequence[str] | None = None,
        similarity: str | Callable[[], Similarity] | None = None,
    ) -> list[Found]:
        """Find the neurons that are most similar to a text, best first; equal ones in the order of layers and neurons.

        The text is scored as one concept beside those of the dissection, by the images that excite the neurons: so
        neurons are found that carry another label, and no label has to resemble the text. A text that is a concept,
        apart from case, underscores and hyphens, is found at once; another takes a pass over the recording. Scores of
        different layers are comparable as far as the similarity makes them so: sums over a neuron's images are.

        Args:
            text: a word or phrase that CLIP can encode; with precomputed embeddings, one that has an embedding.
            n: how many neurons at most. Dead neurons are not found.
            layers: some of `layers`; None for all.
            similarity: as in `scores`.

        Raises:
            ValueError: ``n`` is below 1, there is no layer or one was not dissected, or the text cannot be encoded (the
                message lists concepts close to it).
            TypeError: ``layers`` is one name instead of a sequence of names.
        """
        return search(self, text, n, layers, similarity)

    def audit(self) -> Audit:
        """Audit the labels: concepts that several layers share, that no neuron carries, or that a block divides."""
        return audit(self)
