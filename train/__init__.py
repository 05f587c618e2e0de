"""Fine-tuning: recipes, data, templates, training, and what scores the result. Importing it brings nothing heavy."""
