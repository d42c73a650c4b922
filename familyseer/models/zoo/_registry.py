"""The networks that can be named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from familyseer.models.specs import InputSpec, ModelCard
from familyseer.models.zoo.bert import bert_small
from familyseer.models.zoo.efficientnet import efficientnet_b0
from familyseer.models.zoo.gpt2 import gpt2_small
from familyseer.models.zoo.mlp import mlp
from familyseer.models.zoo.mobilenet import mobilenetv2_half
from familyseer.models.zoo.mobilenet_v1 import mobilenet_half
from familyseer.models.zoo.resnet import resnet18, resnet50
from familyseer.models.zoo.shufflenet import shufflenetv2_half
from familyseer.models.zoo.squeezenet import squeezenet
from familyseer.models.zoo.vit import vit_tiny

# takes a GraphBuilder and the names of the card's inputs; declares its own outputs
Draw = Callable[..., None]

_IMAGE = (InputSpec("image", (1, 3, 224, 224), "float32"),)


@dataclass(frozen=True)
class Network:
    """A card and what draws it."""

    card: ModelCard
    draw: Draw


def _tokens(sequence: int, vocabulary: int) -> tuple[InputSpec, ...]:
    shape = (1, sequence)
    return (
        InputSpec("input_ids", shape, "int64", index_bound=vocabulary),
        InputSpec("attention_mask", shape, "int64"),
        InputSpec("token_type_ids", shape, "int64", index_bound=2),
    )


# parameter counts are the published ones where there is one: torchvision's for the convolutional
# networks, timm's for vit_tiny, BERT-Mini's for bert_small
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
    Network(ModelCard("resnet50", "ResNet-50 (v1), ImageNet head", 25_557_032, _IMAGE), resnet50),
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
            "bert_small",
            "BERT encoder, 4 layers, hidden 256, 128 tokens (BERT-Mini)",
            11_170_560,
            _tokens(128, 30522),
        ),
        bert_small,
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
)

NETWORKS: dict[str, Network] = {network.card.name: network for network in _NETWORKS}
