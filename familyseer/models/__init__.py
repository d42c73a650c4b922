"""From a MODEL argument (a file, or the name of a network built in code) to a Relax module.

Importing this package imports neither TVM nor onnx; loading does.
"""

from familyseer.models import zoo
from familyseer.models.example_inputs import example_inputs
from familyseer.models.input_shapes import parse_input_shape
from familyseer.models.loading import load_asked, load_given, load_model
from familyseer.models.specs import InputSpec, LoadedModel, ModelCard

__all__ = [
    "InputSpec",
    "LoadedModel",
    "ModelCard",
    "example_inputs",
    "load_asked",
    "load_given",
    "load_model",
    "parse_input_shape",
    "zoo",
]
