"""The machine around a study: container, folders, memory, processor, GPUs. Knows no TensorFlow."""
