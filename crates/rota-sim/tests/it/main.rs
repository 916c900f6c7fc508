mod exhaustive;
