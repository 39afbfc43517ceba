"""Extensions that come with the engine: hooks that watch it or change what it does."""
