"""What a batch is made of: built data sets, crops, synthesis, the mixture of them."""
