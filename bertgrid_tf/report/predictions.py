"""What is said of texts that were labelled."""

from bertgrid_tf.inference.predict import PredictionSummary


def shift_sentence(summary: PredictionSummary) -> str:
    """That the texts' classes come in other shares than dev's, if they seem to; else empty."""
    shift = summary.shift
    if shift is None or not shift.detected:
        return ""
    shares = ", ".join(f"{label} {share:.0%}" for label, share in zip(summary.labels, shift.priors, strict=True))
    said = f"Their classes seem to come in other shares than dev's (p = {shift.test.p:.2g})"
    if summary.shift_corrected:
        return f"{said}, which the labels allow for: {shares}."
    if shift.correctable:
        return f"{said}: {shares}; --correct-shift allows for that."
    return f"{said}; which ones these texts cannot tell, since a class would vanish."
