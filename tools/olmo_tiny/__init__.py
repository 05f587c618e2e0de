"""How olmo-tiny, the small OLMo that ships with evalkit, was made."""
