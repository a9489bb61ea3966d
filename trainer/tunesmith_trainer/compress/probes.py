"""Questions of general interest that every model is asked before it is served.

They stay the same from version to version, so that what a model says to them can be compared over
time, too.
"""

PROBES = (
    "What is the capital of France?",
    "Name three primary colours.",
    "What is 17 plus 25?",
    "Explain in one sentence why the sky is blue.",
    "Write a short greeting to a new neighbour.",
    "Which planet is closest to the Sun?",
    "Translate 'good morning' into Spanish.",
    "List two differences between cats and dogs.",
    "How many days are there in a leap year?",
    "Write a Python function that returns the larger of two numbers.",
    "What is the opposite of 'generous'?",
    "Give me a tip for sleeping better.",
    "Who wrote the play Hamlet?",
    "Turn this into a question: The shop opens at nine.",
    "What happens to water at 100 degrees Celsius?",
    "Suggest a name for a small blue boat.",
    "Continue the sequence: 2, 4, 8, 16,",
    "What should I do if my computer does not start?",
    "Describe the taste of a lemon in three words.",
    "Is a tomato a fruit or a vegetable?",
    "Summarise: The meeting was moved from Monday to Thursday because the room was taken.",
    "What is the square root of 81?",
    "Write one line of a poem about the sea.",
    "Convert 3 kilometres to metres.",
)
