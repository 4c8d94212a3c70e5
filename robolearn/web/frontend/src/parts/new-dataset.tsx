// A dialog for what writes a new dataset.
import { useState } from "preact/hooks";
import { Dialog } from "./dialog";

/** Asks for the name of a new dataset, until it is made. */
export function NewDataset(props: { title: string; onClose: () => void; onName: (name: string) => Promise<void> }) {
  const [name, setName] = useState("new.zarr");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const act = () => {
    if (busy) return;
    setBusy(true);
    props.onName(name).then(props.onClose, (error: Error) => (setProblem(error.message), setBusy(false)));
  };
  return (
    <Dialog title={props.title} act={busy ? "Copying ..." : "Copy"} onAct={act} onClose={props.onClose}>
      <label>
        Name of the new dataset{" "}
        <input value={name} required pattern=".+\.zarr" onInput={(e) => setName(e.currentTarget.value)} />
      </label>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </Dialog>
  );
}
