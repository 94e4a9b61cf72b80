-- A session's texts have the bounds of the contract; 010 says that all rows are within them.
ALTER TABLE sessions ADD CONSTRAINT sessions_texts_bounded CHECK (
    char_length(user_id) BETWEEN 1 AND 128 AND char_length(test_id) BETWEEN 1 AND 128
    AND char_length(title) <= 300 AND char_length(difficulty) <= 50
) NOT VALID;
