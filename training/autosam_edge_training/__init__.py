"""Teacher, students, distillation and evaluation."""
