"""Everything that learns or writes: training, evaluation, language models and the rewards that they write."""
