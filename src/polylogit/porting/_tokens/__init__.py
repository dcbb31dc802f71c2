"""Two engines that score the same tokens: what each gave, why they differ, and the report of it."""
