"""Whether the labels of a run can be those of an abdomen: evidence, rules and what they are compared with."""
