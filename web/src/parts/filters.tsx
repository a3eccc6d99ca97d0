// What selects from a list: each is a part of the address.
import { query, setQuery } from "../router";

export function given(name: string): string {
  return query.value.get(name) ?? "";
}

interface TextProps {
  name: string;
  label: string;
  placeholder?: string;
  /** Names that are offered. */
  names?: readonly string[];
}

export function TextFilter({ name, label, placeholder, names }: TextProps) {
  const list = names ? `names-of-${name}` : undefined;
  return (
    <label>
      {label}{" "}
      <input
        type="search"
        value={given(name)}
        placeholder={placeholder ?? ""}
        list={list}
        onChange={(event) => setQuery({ [name]: event.currentTarget.value.trim() })}
      />
      {names && <Names id={list as string} names={names} />}
    </label>
  );
}

export function Names({ id, names }: { id: string; names: readonly string[] }) {
  return (
    <datalist id={id}>
      {names.map((each) => (
        <option key={each} value={each} />
      ))}
    </datalist>
  );
}

interface ChoiceProps {
  name: string;
  label: string;
  /** What is said of no choice. */
  any: string;
  choices: readonly string[];
}

export function ChoiceFilter({ name, label, any, choices }: ChoiceProps) {
  return (
    <label>
      {label}{" "}
      <select
        value={given(name)}
        onChange={(event) => setQuery({ [name]: event.currentTarget.value })}
      >
        <option value="">{any}</option>
        {choices.map((each) => (
          <option key={each} value={each}>
            {each}
          </option>
        ))}
      </select>
    </label>
  );
}

/** From when on, or until when, in UTC. */
export function TimeFilter({ name, label }: { name: string; label: string }) {
  return (
    <label>
      {label}, UTC{" "}
      <input
        type="datetime-local"
        value={given(name)}
        onChange={(event) => setQuery({ [name]: event.currentTarget.value })}
      />
    </label>
  );
}

/** The time of a field of this page, as REST takes it. */
export function asTime(text: string): string | undefined {
  return text ? `${text}Z` : undefined;
}
