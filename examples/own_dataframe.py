"""Tune on pandas DataFrames, read the grid and classify new texts: `python examples/own_dataframe.py`."""

import pandas as pd

import bertgrid_tf as bg


def reviews(things: list[str]) -> pd.DataFrame:
    """Make up a positive and a negative review of each thing."""
    opinions = {"a great": "positive", "what a dull": "negative"}
    rows = [(f"{opinion} {thing}", label) for thing in things for opinion, label in opinions.items()]
    return pd.DataFrame(rows, columns=["review", "sentiment"])


def main() -> None:
    """Tune on 40 reviews, with 12 as the dev split."""
    study = bg.tune(
        train=reviews(["film", "plot", "song", "cast"] * 5),
        dev=reviews(["scene", "film", "ending", "song", "plot", "joke"]),
        text="review",
        label="sentiment",
        study="reviews",
        model="scratch:1x32",  # small and untrained, for seconds; a real one is "bert-base-cased"
        final_model="scratch:1x32",
        sweeps={"batch_size": [4, 8]},
        learning_rates=[1e-2, 1e-3],
        epochs=2,
    )
    print(study.grid)
    print(study.predict(["a great joke", "what a dull plot"]))
    print(f"The report: {study.report()}")


if __name__ == "__main__":
    main()
