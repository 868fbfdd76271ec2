"""What comes in and what goes out: `query` finds runs, `checks` refuses bad ones, `outputs` names what is written."""
