"""From what senders write to LogLines, in one place: the API reads request bodies with it, `harkline classify` files and standard input."""
