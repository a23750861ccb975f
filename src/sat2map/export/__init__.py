"""Export: a model as other programs and faster runtimes read it."""
