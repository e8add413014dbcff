"""What tests of programs that use facilities need."""
