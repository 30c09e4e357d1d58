"""The closed-form estimator: library regression, correction at the points, projection."""
