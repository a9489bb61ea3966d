"""TensorBoard, MLflow and Weights & Biases: the curve of a run, by their own libraries."""
