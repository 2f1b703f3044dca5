"""Texts of a world that is known: each class a Gaussian, so that the posteriors are known exactly."""

import numpy as np
from scipy.special import softmax

# Of a corpus like Friends: one class of nearly half the texts, several of a few per cent.
PRIORS = np.array([0.5, 0.2, 0.15, 0.1, 0.05])


def draw(priors: np.ndarray, n: int, seed: int = 0, separation: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Class ids, int [n], drawn from `priors`, and log likelihoods up to a constant, float [n, classes]."""
    truth = np.random.default_rng([seed, 0]).choice(len(priors), size=n, p=priors)
    return truth, log_likelihoods(truth, len(priors), seed, separation)


def draw_dialogues(
    priors: np.ndarray, dialogues: int, length: int, seed: int = 0, separation: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `draw`, every dialogue with class shares of its own, so that its texts resemble each other; and their
    dialogues, int [n]."""
    generator = np.random.default_rng([seed, 0])
    shares = generator.dirichlet(6 * priors, size=dialogues)
    truth = np.concatenate([generator.choice(len(priors), size=length, p=own) for own in shares])
    numbers = np.repeat(np.arange(dialogues), length)
    return truth, log_likelihoods(truth, len(priors), seed, separation), numbers


def log_likelihoods(truth: np.ndarray, classes: int, seed: int, separation: float) -> np.ndarray:
    """Of one point a text, of its class's Gaussian, under each class's; float [n, classes]."""
    means = separation * np.eye(classes)
    points = means[truth] + np.random.default_rng([seed, 1]).normal(size=(len(truth), classes))
    return points @ means


def posterior(likelihoods: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Of a model that knows all of this world, trained on `priors`: float32 [n, classes]."""
    return softmax(likelihoods + np.log(priors), axis=1).astype(np.float32)
