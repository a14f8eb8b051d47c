"""The speech-recognition task: a streaming RNN-T over word pieces (neural diff paper, 4.1)."""
