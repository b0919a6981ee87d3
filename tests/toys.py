"""A very small recipe for tests of the whole road."""

TABLE = {
    "name": "toy",
    "model": {"id": "tiny:llava", "dtype": "float32"},
    "data": {"name": "phantom", "images": 24, "validation_images": 4, "test_images": 6, "size": 64},
    "reward": {
        "closed": {"parts": [{"scorer": "yes_no_match", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]},
        "choice": {"parts": [{"scorer": "choice_match", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]},
        "open": "armed",
    },
    "stages": [
        {"name": "sft", "kind": "sft", "trl": {"max_steps": 2, "per_device_train_batch_size": 4}},
        {
            "name": "grpo",
            "kind": "grpo",
            "kinds": ["open"],
            "trl": {
                "max_steps": 2,
                "num_generations": 4,
                "per_device_train_batch_size": 8,
                "max_completion_length": 12,
            },
        },
    ],
    "eval": {"limit": 6, "batch_size": 8, "max_new_tokens": 12},
}
