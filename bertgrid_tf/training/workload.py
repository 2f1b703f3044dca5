"""The workload of an epoch, on which its time depends."""

from collections.abc import Hashable
from dataclasses import dataclass

# What training a layer costs beside its matrix products, measured on a CPU with `scratch` models of 2 to 6 layers, 128
# to 768 wide: element-wise work as additional width, a step's weight update as additional tokens, and the launch of its
# operations as multiplications.
ELEMENTWISE_WIDTH = 200
UPDATE_TOKENS = 80
LAUNCH_MULTIPLICATIONS = 2_000_000
FORWARD_SHARE = 1 / 3
"""The cost of a forward pass in relation to a forward and a backward one."""


@dataclass(frozen=True)
class EpochWorkload:
    """One epoch of a configuration.

    Attributes:
        kind: All that the time of a token depends on: model, layout, maximum length, batch size …
        model: The model that must be built for it.
        layers: Layers of the encoder.
        width: Width of the encoder.
        steps: Training steps.
        tokens: Tokens trained, padding not counted.
        evaluated_tokens: Tokens of the dev split.
        frozen_layers: Lowest layers of the encoder that are not trained.
    """

    kind: Hashable
    model: Hashable
    layers: int
    width: int
    steps: int
    tokens: float
    evaluated_tokens: float
    frozen_layers: int = 0

    @property
    def training_cost(self) -> float:
        """Cost of training, in multiplications of a layer's size.

        Before a kind is measured, its time is predicted from another kind's by the ratio of their costs.
        """
        launched, updated = self.steps * LAUNCH_MULTIPLICATIONS, self.steps * UPDATE_TOKENS
        trained = (self.layers - self.frozen_layers) * ((self.tokens + updated) * self._token_cost + launched)
        return trained + self.frozen_layers * FORWARD_SHARE * (self.tokens * self._token_cost + launched)

    @property
    def cost(self) -> float:
        """Cost of training and evaluation."""
        return self.training_cost + self.layers * self.evaluated_tokens * self._token_cost * FORWARD_SHARE

    @property
    def _token_cost(self) -> int:
        return self.width * (self.width + ELEMENTWISE_WIDTH)
