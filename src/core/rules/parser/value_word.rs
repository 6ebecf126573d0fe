//! `VALUE` behind SELECT is a word of the language, and a name that many payloads have: `SELECT VALUE a`, but `SELECT value, unit`.

use super::Parser;
use crate::rules::lexer::Kind;
use crate::rules::problem::ParseError;

impl Parser<'_> {
    /// Whether the present token is the word: something follows that an expression begins with.
    pub(super) fn is_value_clause(&self) -> Result<bool, ParseError> {
        if !self.token.kind.is_word("VALUE") {
            return Ok(false);
        }
        let mut lexer = self.lexer;
        let next = lexer.next()?;
        Ok(match next.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Variable(_) | Kind::Sign("(" | "[" | "{") => true,
            // `VALUE -n` has a sign, `value - n` and `value-n` are differences.
            Kind::Sign("-") => next.start > self.token.end && lexer.next()?.start == next.end,
            // `VALUE * FROM` is the whole payload, `value * 2` is a product.
            Kind::Sign("*") => {
                let behind = lexer.next()?.kind;
                behind == Kind::End || ["FROM", "WHERE"].iter().any(|word| behind.is_word(word))
            }
            Kind::Word(_) => !["FROM", "AS", "WHERE", "AND", "OR", "IN"].iter().any(|word| next.kind.is_word(word)),
            Kind::Sign(_) | Kind::End => false,
        })
    }
}
