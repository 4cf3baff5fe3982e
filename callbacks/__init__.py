"""*When* things happen: stages, evaluations, tracking, progress, checkpoints. No arithmetic."""
