use proptest::prelude::*;

use super::*;

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned()).unwrap()
}

fn merged(format: DocumentFormat, document: &str, changes: &[(&str, Option<&str>)]) -> String {
    try_merge(format, document, changes).unwrap_or_else(|error| panic!("{error} in {document:?}"))
}

fn try_merge(
    format: DocumentFormat,
    document: &str,
    changes: &[(&str, Option<&str>)],
) -> Result<String, DocumentError> {
    let values: Vec<_> = changes.iter().map(|(name, text)| (*name, text.map(value))).collect();
    let changes: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let document = (!document.is_empty()).then(|| value(document));
    Ok(merge(document.as_ref(), format, &changes)?.expose().to_owned())
}

fn got(format: DocumentFormat, document: &str, name: &str) -> Result<Option<String>, DocumentError> {
    Ok(get(&value(document), format, name)?.map(|value| value.expose().to_owned()))
}

mod json {
    use super::*;

    const JSON: DocumentFormat = DocumentFormat::Json;

    #[test]
    fn own_members_are_set_where_they_stand_and_added_at_the_end() {
        for (document, changes, wanted) in [
            ("", &[("A", Some("1"))] as &[_], r#"{"A":"1"}"#),
            (" \n", &[("A", Some("1"))], r#"{"A":"1"}"#),
            ("{}", &[("A", Some("1")), ("B", Some("2"))], r#"{"A":"1","B":"2"}"#),
            (r#"{"A":"x","F":1.50}"#, &[("A", Some("1"))], r#"{"A":"1","F":1.50}"#),
            (r#"{"F":1e2 }"#, &[("A", Some("1"))], r#"{"F":1e2,"A":"1" }"#),
            (
                "{\n  \"F\": null\n}\n",
                &[("A", Some("1")), ("B", Some("2"))],
                "{\n  \"F\": null,\n  \"A\": \"1\",\n  \"B\": \"2\"\n}\n",
            ),
            (
                " { \"F\" : [1, {\"A\":2}] , \"A\" : \"x\" } ",
                &[("A", Some("q\"\\\n"))],
                " { \"F\" : [1, {\"A\":2}] , \"A\" : \"q\\\"\\\\\\n\" } ",
            ),
            (r#"{"\u0041":"x"}"#, &[("A", Some("1"))], r#"{"\u0041":"1"}"#),
        ] {
            assert_eq!(merged(JSON, document, changes), wanted);
        }
    }

    #[test]
    fn own_members_are_removed_with_one_comma_each() {
        let document = "{ \"A\":1, \"F\":2,  \"B\":3 }";
        for (changes, wanted) in [
            (&[("A", None)] as &[_], "{ \"F\":2,  \"B\":3 }"),
            (&[("B", None)], "{ \"A\":1, \"F\":2 }"),
            (&[("A", None), ("B", None)], "{ \"F\":2 }"),
            (&[("F", None), ("A", None)], "{  \"B\":3 }"),
            (&[("F", None), ("A", None), ("B", None)], "{ }"),
            (&[("F", None), ("A", None), ("B", None), ("C", Some("x"))], "{  \"C\":\"x\" }"),
            (&[("X", None)], document),
            (&[("A", Some("x")), ("A", None)], "{ \"F\":2,  \"B\":3 }"),
        ] {
            assert_eq!(merged(JSON, document, changes), wanted, "{changes:?}");
        }
    }

    #[test]
    fn only_texts_are_read() {
        let document = r#"{"A":"x","B":7,"C":"","D":"\u00e9\ud83d\ude00\/\b","E":"\ud83d"}"#;
        assert_eq!(got(JSON, document, "A").unwrap().as_deref(), Some("x"));
        assert_eq!(got(JSON, document, "C").unwrap(), None);
        assert_eq!(got(JSON, document, "X").unwrap(), None);
        assert_eq!(got(JSON, document, "D").unwrap().as_deref(), Some("é😀/\u{8}"));
        for name in ["B", "E"] {
            assert_eq!(got(JSON, document, name), Err(DocumentError::NotText { name: name.to_owned() }));
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_and_a_foreign_one_is_left() {
        let document = r#"{"A":"1","F":1,"F":2,"\u0041":"2"}"#;
        let twice = DocumentError::Duplicate { name: "A".to_owned() };
        assert_eq!(got(JSON, document, "A"), Err(twice.clone()));
        assert_eq!(try_merge(JSON, document, &[("A", Some("3"))]), Err(twice));
        assert_eq!(
            merged(JSON, document, &[("B", Some("3"))]),
            r#"{"A":"1","F":1,"F":2,"\u0041":"2","B":"3"}"#
        );
    }

    #[test]
    fn what_is_not_one_object_is_refused_without_being_shown() {
        for document in [
            "hunter2",
            "[\"hunter2\"]",
            "{\"a\":\"hunter2\"",
            "{\"a\":1}hunter2",
            "\"hunter2\"",
            "{hunter2}",
            "{\"a\":hunter2}",
            "null",
        ] {
            for error in [
                got(JSON, document, "A").unwrap_err(),
                try_merge(JSON, document, &[("A", Some("1"))]).unwrap_err(),
            ] {
                assert!(matches!(error, DocumentError::NotJson { .. }), "{document}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            }
        }
    }

    #[test]
    fn a_document_over_the_limit_is_refused() {
        let long = "x".repeat(crate::value::MAX_VALUE_BYTES - 4);
        let result = try_merge(JSON, "{}", &[("A", Some(&long))]);
        assert!(matches!(result, Err(DocumentError::Value(InvalidValue::TooLong(_)))));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn foreign_members_stay_and_what_is_set_is_got(
            foreign in prop::collection::vec(("f.{0,6}", any_json()), 0..6),
            own in prop::collection::btree_map("[A-Z]{1,3}", prop::option::of("[^\0]{1,30}"), 1..4),
            before in prop::collection::btree_set("[A-Z]{1,3}", 0..4),
            pretty in any::<bool>(),
        ) {
            // Foreign members, each as its own text, with some own ones between.
            let (comma, colon) = if pretty { (",\n  ", ": ") } else { (",", ":") };
            let text = |name: &str, value: &serde_json::Value| {
                format!("{}{colon}{value}", serde_json::Value::from(name))
            };
            let foreign: Vec<_> = foreign.iter().map(|(name, value)| text(name, value)).collect();
            let mut members = foreign.clone();
            for (i, name) in before.iter().enumerate() {
                members.insert((i * 2).min(members.len()), text(name, &"old".into()));
            }
            let document = format!("{{{}}}", members.join(comma));
            let changes: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();

            let result = merged(JSON, &document, &changes);
            let mut at = 0;
            for member in &foreign {
                at += result[at..].find(member.as_str()).unwrap() + member.len();
            }
            let parsed: serde_json::Map<_, _> = serde_json::from_str(&result).unwrap();
            for (name, value) in &own {
                prop_assert_eq!(&got(JSON, &result, name).unwrap(), value);
                prop_assert_eq!(parsed.get(name).and_then(|v| v.as_str()), value.as_deref());
            }
            for name in before.iter().filter(|name| !own.contains_key(*name)) {
                prop_assert_eq!(got(JSON, &result, name), Ok(Some("old".to_owned())));
            }
            prop_assert_eq!(merged(JSON, &result, &changes), result);
        }

        #[test]
        fn a_text_is_read_as_serde_reads_it(text in "[^\0]{1,30}", ascii in any::<bool>()) {
            let json = serde_json::Value::from(text.as_str()).to_string();
            let escaped: String = json.chars().flat_map(|c| {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).to_vec();
                let escape = ascii && !c.is_ascii();
                if escape { units.iter().map(|u| format!("\\u{u:04X}")).collect() } else { vec![c.to_string()] }
            }).collect();
            prop_assert_eq!(got(JSON, &format!("{{\"A\":{escaped}}}"), "A").unwrap(), Some(text));
        }

        #[test]
        fn no_document_makes_the_parser_panic(text in r#"[{}\[\]",:\\uA0 \n]{1,24}"#) {
            let _ = got(JSON, &text, "A");
            let _ = try_merge(JSON, &text, &[("A", Some("1"))]);
        }
    }
}

mod dotenv {
    use super::*;

    const DOTENV: DocumentFormat = DocumentFormat::Dotenv;

    #[test]
    fn own_lines_are_set_where_they_stand_and_added_at_the_end() {
        for (document, changes, wanted) in [
            ("", &[("A", Some("1"))] as &[_], "A=1\n"),
            ("# c\nF=2", &[("A", Some("1"))], "# c\nF=2\nA=1\n"),
            ("A=x # by hand\nF=2\n", &[("A", Some("1"))], "A=1\nF=2\n"),
            (
                "  export A = 'x'\r\nF=2\r\n",
                &[("A", Some("1")), ("B", Some("2"))],
                "  export A=1\r\nF=2\r\nB=2\r\n",
            ),
            ("\u{feff}A=x\n", &[("A", Some("1"))], "\u{feff}A=1\n"),
            ("A: x\n", &[("A", Some("1"))], "A=1\n"),
            ("F=2\nA=x", &[("A", Some("1"))], "F=2\nA=1"),
            ("#A=x\nAB=x\nB.A=x\n", &[("A", Some("1"))], "#A=x\nAB=x\nB.A=x\nA=1\n"),
            ("F=\"\nA=x\n\"\n", &[("A", Some("1"))], "F=\"\nA=x\n\"\nA=1\n"),
            ("F=it's\nA=x\n", &[("A", Some("1"))], "F=it's\nA=1\n"),
        ] {
            assert_eq!(merged(DOTENV, document, changes), wanted, "{document:?}");
        }
    }

    #[test]
    fn own_lines_are_removed_whole() {
        for (document, wanted) in [
            ("A=1\nF=2\n", "F=2\n"),
            ("F=2\nA=1\n", "F=2\n"),
            ("F=2\nA='1\n2'\nG=3\n", "F=2\nG=3\n"),
            ("F=2\n", "F=2\n"),
        ] {
            assert_eq!(merged(DOTENV, document, &[("A", None)]), wanted);
        }
        // Nothing is left: a document without anything is no value.
        let empty = try_merge(DOTENV, "A=1\n", &[("A", None)]);
        assert_eq!(empty, Err(DocumentError::Value(InvalidValue::Empty)));
    }

    #[test]
    fn a_value_has_the_quotes_that_it_needs() {
        for (text, line) in [
            ("aZ09_./:@%+=,-", "A=aZ09_./:@%+=,-\n"),
            ("a b", "A='a b'\n"),
            ("#a", "A='#a'\n"),
            ("a$b`c\"d", "A='a$b`c\"d'\n"),
            ("it's", "A=\"it's\"\n"),
            (" é ", "A=' é '\n"),
        ] {
            assert_eq!(merged(DOTENV, "", &[("A", Some(text))]), line);
        }
    }

    #[test]
    fn a_value_that_is_not_read_alike_is_refused() {
        for (text, what) in [
            ("a\nb", "a line end"),
            ("a\rb", "a line end"),
            ("a\u{2028}b", "a line end"),
            ("a\\b", "a backslash"),
            ("a\u{1b}b", "a control character"),
            ("'\"", "a single quote together with a double quote, `$` or a backtick"),
            ("'$", "a single quote together with a double quote, `$` or a backtick"),
        ] {
            let error = try_merge(DOTENV, "F=1\n", &[("A", Some(text))]).unwrap_err();
            assert_eq!(error, DocumentError::Unwritable { name: "A".to_owned(), what });
        }
        for name in ["", "1A", "A-B", "A.B", "A B", "prod/A"] {
            let error = try_merge(DOTENV, "F=1\n", &[(name, Some("1"))]).unwrap_err();
            assert_eq!(error, DocumentError::Name { name: name.to_owned() });
        }
    }

    #[test]
    fn values_are_read_where_all_readers_agree() {
        for (document, wanted) in [
            ("A=1", Some("1")),
            (" export  A = 1 2 \n", Some("1 2")),
            ("A=' 1'", Some(" 1")),
            ("A=\"it's\"  \r\n", Some("it's")),
            ("A=\n", None),
            ("A=''\n", None),
            ("F=1\n", None),
            ("F='A=1'\n", None),
            ("A=a=b", Some("a=b")),
        ] {
            assert_eq!(got(DOTENV, document, "A").unwrap().as_deref(), wanted, "{document:?}");
        }
    }

    #[test]
    fn a_line_that_readers_read_differently_is_refused_by_its_number() {
        for (document, line, what) in [
            ("F=1\nA: 1\n", 2, "a colon instead of `=`"),
            ("A=1 # c\n", 1, "a quote, a backtick, `$`, `#` or an odd blank without quotes around"),
            ("A=$B\n", 1, "a quote, a backtick, `$`, `#` or an odd blank without quotes around"),
            ("A=a\u{a0}b\n", 1, "a quote, a backtick, `$`, `#` or an odd blank without quotes around"),
            ("A=`1`\n", 1, "a quote, a backtick, `$`, `#` or an odd blank without quotes around"),
            ("A=\"$B\"\n", 1, "`$` or a backtick in double quotes"),
            ("A='1'2\n", 1, "something after the closing quote"),
            ("A='1' # c\n", 1, "something after the closing quote"),
            ("F=\"\n\"\nA=\"1\n2\"\n", 3, "a line end"),
            ("A=a\\b\n", 1, "a backslash"),
            // Lines of others, where they hide which line is whose.
            ("F='1\nA=2\n", 1, "a quote that is never closed"),
            ("F=1\\\nA=2\n", 1, "a backslash at the end"),
            ("F=1\n# c\\\nA=2\n", 2, "a backslash at the end"),
            ("F='1' # c\\\nA=2\n", 1, "a backslash at the end"),
            ("F=1\rA=2\n", 1, "a carriage return inside"),
            ("F='\\'\nA='\n", 1, "a backslash before a quote"),
            ("F=\"\\\\\"\nA=\"\n", 1, "a backslash before a quote"),
            ("F=`1\nA=2`\n", 1, "backticks over several lines"),
            ("F='1' \"2\nA=2\"\n", 1, "a second quoted value"),
        ] {
            let error = got(DOTENV, document, "A").unwrap_err();
            assert_eq!(error, DocumentError::Ambiguous { line, what }, "{document:?}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_and_a_foreign_one_is_left() {
        let document = "A=1\nF=1\nF=2\nexport A=2\n";
        let twice = DocumentError::Duplicate { name: "A".to_owned() };
        assert_eq!(got(DOTENV, document, "A"), Err(twice.clone()));
        assert_eq!(try_merge(DOTENV, document, &[("A", Some("3"))]), Err(twice));
        assert_eq!(merged(DOTENV, document, &[("B", Some("3"))]), format!("{document}B=3\n"));
    }

    fn foreign_line() -> impl Strategy<Value = String> {
        prop_oneof![
            "#[ -\\[\\]-~]{0,12}",
            "f[a-z_.-]{0,4} ?= ?[a-z0-9 ]{0,8}",
            "f[a-z]{0,4}=\"[a-zA-Z=$' \n]{0,12}\"",
            "f[a-z]{0,4}='[a-zA-Z=$\" \n#]{0,12}' # [a-z']{0,4}",
            "[ \t]{0,3}",
        ]
    }

    proptest! {
        #[test]
        fn foreign_lines_stay_and_what_is_set_is_got(
            foreign in prop::collection::vec(foreign_line(), 0..6),
            own in prop::collection::btree_map("[A-Z]{1,3}", prop::option::of("[^\0]{1,20}"), 1..4),
            crlf in any::<bool>(),
            end in any::<bool>(),
        ) {
            let ending = if crlf { "\r\n" } else { "\n" };
            let mut document = foreign.join(ending);
            if end && !document.is_empty() {
                document.push_str(ending);
            }
            let changes: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let result = match try_merge(DOTENV, &document, &changes) {
                Ok(result) => result,
                Err(DocumentError::Unwritable { name, .. }) => {
                    let text = own[&name].as_deref().unwrap();
                    let odd = |c: char| "\\'\u{2028}\u{2029}".contains(c) || c.is_control();
                    prop_assert!(text.contains(odd));
                    return Ok(());
                }
                Err(DocumentError::Value(InvalidValue::Empty)) => return Ok(()),
                Err(error) => panic!("{error} in {document:?}"),
            };
            prop_assert!(result.starts_with(&document), "{result:?} {document:?}");
            for (name, value) in &own {
                prop_assert_eq!(&got(DOTENV, &result, name).unwrap(), value);
            }
            prop_assert_eq!(merged(DOTENV, &result, &changes), result.clone());
            let gone: Vec<_> = own.keys().map(|name| (name.as_str(), None)).collect();
            if let Ok(without) = try_merge(DOTENV, &result, &gone) {
                prop_assert_eq!(without.trim_end(), document.trim_end());
            }
        }

        #[test]
        fn no_document_makes_the_parser_panic(text in "[AF=:'\"`\\\\ \n\r#éx]{1,24}") {
            let _ = got(DOTENV, &text, "A");
            if let Ok(result) = try_merge(DOTENV, &text, &[("A", Some("1"))]) {
                prop_assert_eq!(got(DOTENV, &result, "A"), Ok(Some("1".to_owned())));
            }
        }
    }
}
