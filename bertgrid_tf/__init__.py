"""bertgrid-tf: time-efficient tuning of BERT text classifiers in TensorFlow."""

import os

# transformers' TensorFlow models are tf_keras models, and TensorFlow decides which Keras `tf.keras` is, and how
# much it prints, when it is first imported. Hence here, before anything of ours can import it.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
# Where PyTorch is installed, transformers would load it into every process: 4 seconds and 300 MB for nothing.
os.environ.setdefault("USE_TORCH", "0")

__version__ = "0.1.0"
