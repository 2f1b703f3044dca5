"""The best rate of a matrix product that a framework reaches at a BERT's sizes, in each precision."""

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any

from benchmarks.contenders.process import Reply, serve
from bertgrid_tf.hyperparameters import Precision

# Long in comparison with a call, and short enough to meet a moment without other load.
SECONDS = 0.1
REPEATS = 3
# Products in a row, before the result of the last is read.
ROW = 10

Multiply = Callable[[], object]


def rate(multiply: Multiply, flops: float) -> float:
    """Measure the best rate of a row of products of `flops` FLOPs each, in FLOP/s."""
    multiply()
    best = 0.0
    for _ in range(REPEATS):
        rows, began = 0, perf_counter()
        while (taken := perf_counter() - began) < SECONDS:
            multiply()
            rows += 1
        best = max(best, rows * ROW * flops / taken)
    return best


def best(sizes: Iterable[tuple[int, int, int]], product: Callable[[int, int, int], Multiply]) -> float:
    """Return the best rate over products [m, k]·[k, n], in FLOP/s."""
    return max(rate(product(m, k, n), 2 * m * k * n) for m, k, n in sizes)


def tensorflow(dtype: Precision) -> Callable[[int, int, int], Multiply]:
    """Return the maker of TensorFlow's products."""
    import tensorflow as tf

    from bertgrid_tf.bert.unpadded import COMPUTE

    def product(m: int, k: int, n: int) -> Multiply:
        left, right = (tf.cast(tf.random.normal(size), COMPUTE[dtype]) for size in ([m, k], [k, n]))

        def multiply() -> None:
            for _ in range(ROW):
                result = tf.matmul(left, right)
            result[0, 0].numpy()

        return multiply

    return product


def torch(dtype: Precision) -> Callable[[int, int, int], Multiply]:
    """Return the maker of PyTorch's products."""
    import torch

    def product(m: int, k: int, n: int) -> Multiply:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        left, right = (torch.randn(*size).to(device, kind) for size in ((m, k), (k, n)))

        def multiply() -> None:
            for _ in range(ROW):
                result = torch.matmul(left, right)
            result[0, 0].item()

        return multiply

    return product


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds that measure `request["products"]` in each of `request["precisions"]`."""
    framework = {"tensorflow": tensorflow, "torch": torch}[request["framework"]]
    return lambda: {dtype: best(request["products"], framework(dtype)) for dtype in request["precisions"]}


if __name__ == "__main__":
    serve(prepare)
