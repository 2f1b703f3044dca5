"""The best rate of a matrix product that a framework reaches at a BERT's sizes, in fp32 and bf16."""

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any

from benchmarks.contenders.process import Reply, serve

# Long beside the clock's and the call's own time, and short enough to meet a quiet moment.
SECONDS = 0.1
REPEATS = 3
# Products in a row, before the last one's result is waited for.
ROW = 10

Multiply = Callable[[], object]


def rate(multiply: Multiply, flops: float) -> float:
    """The best of some measurements of a row of products, each of so many FLOPs, in FLOP/s."""
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
    """The best rate over products [m, k]·[k, n]."""
    return max(rate(product(m, k, n), 2 * m * k * n) for m, k, n in sizes)


def tensorflow(dtype: str) -> Callable[[int, int, int], Multiply]:
    import tensorflow as tf

    def product(m: int, k: int, n: int) -> Multiply:
        kind = tf.bfloat16 if dtype == "bf16" else tf.float32
        left, right = tf.cast(tf.random.normal([m, k]), kind), tf.cast(tf.random.normal([k, n]), kind)

        def multiply() -> None:
            for _ in range(ROW):
                result = tf.matmul(left, right)
            result[0, 0].numpy()

        return multiply

    return product


def torch(dtype: str) -> Callable[[int, int, int], Multiply]:
    import torch

    def product(m: int, k: int, n: int) -> Multiply:
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        device = "cuda" if torch.cuda.is_available() else "cpu"
        left, right = (torch.randn(*size).to(device, kind) for size in ((m, k), (k, n)))

        def multiply() -> None:
            for _ in range(ROW):
                result = torch.matmul(left, right)
            result[0, 0].item()

        return multiply

    return product


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    framework = {"tensorflow": tensorflow, "torch": torch}[asked["framework"]]
    return lambda: {dtype: best(asked["products"], framework(dtype)) for dtype in ("fp32", "bf16")}


if __name__ == "__main__":
    serve(prepare)
