"""The networks that can be named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from familyseer.models.specs import InputSpec, ModelCard
from familyseer.models.zoo.bert import bert_large, bert_small, roberta_large
from familyseer.models.zoo.efficientnet import efficientnet_b0
from familyseer.models.zoo.gpt2 import gpt2_published, gpt2_small
from familyseer.models.zoo.mlp import mlp
from familyseer.models.zoo.mobilenet import mobilenetv2_half
from familyseer.models.zoo.mobilenet_v1 import mobilenet_half
from familyseer.models.zoo.resnet import resnet18, resnet50_v1, resnet152_v2
from familyseer.models.zoo.shufflenet import shufflenetv2_half
from familyseer.models.zoo.squeezenet import squeezenet
from familyseer.models.zoo.vit import vit_huge, vit_tiny

# takes a GraphBuilder and the names of the card's inputs; declares its own outputs
Draw = Callable[..., None]

_HUGE_BYTES = 1 << 28
_IMAGE = (InputSpec("image", (1, 3, 224, 224), "float32"),)


@dataclass(frozen=True)
class Network:
    """A card and what draws it."""

    card: ModelCard
    draw: Draw

    @property
    def is_huge(self) -> bool:
        """Whether its weights are too many to be held as constants of a module: ONNX files end at
        2 GB, and a library that carries its weights is copied by every step that makes it."""
        return self.card.parameters * 4 >= _HUGE_BYTES


def _tokens(sequence: int, vocabulary: int) -> tuple[InputSpec, ...]:
    shape = (1, sequence)
    return (
        InputSpec("input_ids", shape, "int64", index_bound=vocabulary),
        InputSpec("attention_mask", shape, "int64"),
        InputSpec("token_type_ids", shape, "int64", index_bound=2),
    )


# parameter counts are the published ones where there is one:
# torchvision's for the convolutional networks; for mobilenet_0.5 and resnet152_v2, which it does
# not have, those of MXNet Gluon's model zoo (1,342,536 and 60,329,140), which counts BatchNorm's
# running statistics too: 10,944 and 143,878 of them (Gluon's mobilenetv2_0.5 rounds its channels
# otherwise than the paper's authors do, and stores 1,983,104);
# timm's for vit_tiny, torchvision's vit_h_14 with a linear head (632,045,800) for vit_huge;
# for the language models those of the model cards' checkpoints, read with the library that they are
# published for: BERT-Mini; bert-large-uncased without its pre-training heads, pooler included
# (335,141,888; the paper's 340 M is rounded up); roberta-large, the same way (355,359,744; the
# paper says 355 M); gpt2, its head tied to its table (124,439,808)
_NETWORKS = (
    Network(
        ModelCard(
            "mlp",
            "three dense layers, 784-512-256-10",
            535_818,
            (InputSpec("x", (1, 784), "float32"),),
        ),
        mlp,
    ),
    Network(
        ModelCard("squeezenet", "SqueezeNet 1.1, ImageNet head", 1_235_496, _IMAGE), squeezenet
    ),
    Network(ModelCard("resnet18", "ResNet-18 (v1), ImageNet head", 11_689_512, _IMAGE), resnet18),
    Network(
        ModelCard("resnet50_v1", "ResNet-50 (v1), ImageNet head", 25_557_032, _IMAGE), resnet50_v1
    ),
    Network(
        ModelCard("resnet152_v2", "ResNet-152 (v2), ImageNet head", 60_185_262, _IMAGE),
        resnet152_v2,
    ),
    Network(
        ModelCard("mobilenet_0.5", "MobileNet (v1), half width, ImageNet head", 1_331_592, _IMAGE),
        mobilenet_half,
    ),
    Network(
        ModelCard("mobilenetv2_0.5", "MobileNetV2, half width, ImageNet head", 1_968_680, _IMAGE),
        mobilenetv2_half,
    ),
    Network(
        ModelCard("shufflenetv2_0.5", "ShuffleNetV2, half width, ImageNet head", 1_366_792, _IMAGE),
        shufflenetv2_half,
    ),
    Network(
        ModelCard("efficientnet_b0", "EfficientNet-B0, ImageNet head", 5_288_548, _IMAGE),
        efficientnet_b0,
    ),
    Network(
        ModelCard(
            "vit_tiny",
            "vision transformer, 12 layers, hidden 192, 16 x 16 patches (ViT-Ti/16)",
            5_717_416,
            _IMAGE,
        ),
        vit_tiny,
    ),
    Network(
        ModelCard(
            "vit_huge",
            "vision transformer, 32 layers, hidden 1280, 14 x 14 patches (ViT-H/14)",
            632_045_800,
            _IMAGE,
        ),
        vit_huge,
    ),
    Network(
        ModelCard(
            "bert_small",
            "BERT encoder, 4 layers, hidden 256, 128 tokens (BERT-Mini)",
            11_170_560,
            _tokens(128, 30522),
        ),
        bert_small,
    ),
    Network(
        ModelCard(
            "bert_large",
            "BERT encoder, 24 layers, hidden 1024, 128 tokens",
            335_141_888,
            _tokens(128, 30522),
        ),
        bert_large,
    ),
    Network(
        ModelCard(
            "roberta_large",
            "RoBERTa encoder, 24 layers, hidden 1024, 128 tokens",
            355_359_744,
            _tokens(128, 50265)[:2],
        ),
        roberta_large,
    ),
    Network(
        ModelCard(
            "gpt2_small",
            "GPT-2 decoder, 4 layers, hidden 256, 64 tokens, vocabulary 4096",
            4_224_512,
            (InputSpec("input_ids", (1, 64), "int64", index_bound=4096),),
        ),
        gpt2_small,
    ),
    Network(
        ModelCard(
            "gpt2",
            "GPT-2 decoder, 12 layers, hidden 768, 128 tokens",
            124_439_808,
            (InputSpec("input_ids", (1, 128), "int64", index_bound=50257),),
        ),
        gpt2_published,
    ),
)

NETWORKS: dict[str, Network] = {network.card.name: network for network in _NETWORKS}

# other names of theirs, for those who know them by these
ALIASES = {"resnet50": "resnet50_v1"}
