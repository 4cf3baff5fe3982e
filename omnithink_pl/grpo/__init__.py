"""Multi-Task GRPO: advantages, objective, KL control, collection of rollouts, update, metrics."""
