"""The result of a dissection: what `dissect` and `open_store` return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Named neurons of a network. It keeps what was recorded: other words and similarities need no second pass.

    Made by `lwta.dissection.dissect`, or by `lwta.dissection.open_store` from what that recorded.

    Example:
        >>> from PIL import Image
        >>> probe = [(colour, Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue")]
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> dissection = dissect(network, "2", probe, clip=embeddings, concepts=embeddings.concepts,
        ...                      transform=torchvision.transforms.ToTensor(), progress=False)
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
        """Why the network sees in one image what it sees: see `lwta.dissection.explain`.

        Raises:
            ValueError: the dissection was opened from a store, without the network.
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
        """Write the atlas, with a page for each layer and explained image: see `lwta.dissection.atlas.write_atlas`."""
        return write_atlas(self, folder, title=title, top=top, explained=explained, progress=progress)

    def scores(
        self,
        class_names: Sequence[str] | None = None,
        output_layer: str | None = None,
        held_out: float = 0.3,
        similarity: str | Callable[[], Similarity] | None = None,
    ) -> Scores:
        """How readable every layer is, and how well the output neurons are identified.

        To check the labels, the neurons are named once more by a part of the images, and it is tried on the others
        whether the concepts say which of them excite the neurons. An image belongs to the others by a hash of its key,
        so that networks are checked on the same images. All other figures are of the dissection as it is.

        Args:
            class_names: of the output neurons, in their order; None takes those that a network of `lwta.create_model`
                carries, if it does.
            output_layer: the layer they belong to; None is the last one without competition of as many neurons.
            held_out: share of the images on which the labels are checked, in [0, 1); 0 checks nothing.
            similarity: by which the neurons are named for this; None is the one of that name with its default
                parameters, so give your own if you have changed any.

        Raises:
            ValueError: ``held_out`` is out of range, ``output_layer`` was not dissected, is given without names or has
                another number of neurons, or the similarity is not one of the library's and must be given.
        """
        return score(self, class_names, output_layer, held_out, similarity)

    def search(
        self,
        text: str,
        n: int = 10,
        layers: Sequence[str] | None = None,
        similarity: str | Callable[[], Similarity] | None = None,
    ) -> list[Found]:
        """The neurons that are most similar to any text, best first; equal ones in the order of layers and neurons.

        The text is scored as one concept beside those of the dissection, by the images that excite the neurons: so
        neurons are found that carry another label, and no label has to resemble the text. A text that is a concept, but
        for case, underscores and hyphens, is found at once; another takes a pass over the recording. Scores of
        different layers are comparable as far as the similarity makes them so: sums over a neuron's images are.

        Args:
            text: a word or phrase that CLIP can encode; with precomputed embeddings, one of which there is one.
            n: how many neurons at most. Dead neurons are not found.
            layers: some of `layers`; None for all.
            similarity: as in `scores`.

        Raises:
            ValueError: ``n`` is below 1, a layer was not dissected, or the text cannot be encoded; concepts close to it
                are named.
        """
        return search(self, text, n, layers, similarity)

    def audit(self) -> Audit:
        """Concepts that several layers share, concepts that no neuron carries, blocks that divide one concept."""
        return audit(self)
