//! What a bare parse is: the same parser, dialect and options as the analysis uses, and nothing else.

use sqlparser::{
    ast::Statement,
    dialect::SnowflakeDialect,
    parser::{Parser, ParserError, ParserOptions},
};

/// The trees of a text; an error for statements that the analysis tells by their heads alone.
pub fn parse(sql: &str) -> Result<Vec<Statement>, ParserError> {
    let options = ParserOptions::new().with_unescape(false).with_trailing_commas(true);
    Parser::new(&SnowflakeDialect).with_options(options).with_recursion_limit(50).try_with_sql(sql)?.parse_statements()
}
