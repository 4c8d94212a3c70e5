// What pages with episodes share: the word on success, tagging, an edit in short.
import { useState } from "preact/hooks";
import { Dialog } from "./dialog";

export function TagDialog(props: { count: number; onTag: (tags: Record<string, unknown>) => void; onClose: () => void }) {
  const [name, setName] = useState("");
  const [value, setValue] = useState("true");
  const parsed = () => {
    try {
      return JSON.parse(value) as unknown;
    } catch {
      return value; // a plain word
    }
  };
  return (
    <Dialog title={`Tag ${props.count} episodes`} act="Tag" onAct={() => props.onTag({ [name]: parsed() })} onClose={props.onClose}>
      <label>
        Tag <input value={name} required onInput={(e) => setName(e.currentTarget.value)} />
      </label>
      <label>
        Value, JSON or a word; null takes the tag away{" "}
        <input value={value} required onInput={(e) => setValue(e.currentTarget.value)} />
      </label>
    </Dialog>
  );
}

export function Success({ value }: { value: boolean | null }) {
  if (value === null) return <span class="quiet">? unknown</span>;
  return value ? <span class="good">✓ success</span> : <span class="problem">✗ failure</span>;
}

/** "delete 3 episodes" of the words of an edit, which name every id. */
export function brief(edit: string): string {
  const [what, ...ids] = edit.split(" ");
  return !edit ? "" : ids.length > 1 ? `${what} of ${ids.length}` : what;
}
