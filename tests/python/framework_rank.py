"""One rank of a framework's training; run by torchrun. Trains with PyTorch's loader, then with ours.

    framework_rank.py SOURCE RESULTS FRAMEWORK...

Writes RESULTS/FRAMEWORK-RANK.json: for each of the two the indices of every batch, and what the loader was in the end.
"""

import json
import os
import sys

import alnair
import torch
from alnair import AlnairJobDataLoader, _ahead
from torch.utils.data import DataLoader


class Lengths(alnair.AlnairJobDataset):
    def __getitem__(self, index):
        return {"index": index, "x": torch.tensor([float(len(self.get_data(index)))])}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def forward(self, index, x):
        self.seen.append(index.tolist())
        return {"loss": self.layer(x / 1000).mean()}


def lightning(dataset, ours, results):
    import pytorch_lightning

    class Module(pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def training_step(self, batch, _):
            return self.model(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    pytorch_lightning.seed_everything(3)
    trainer = pytorch_lightning.Trainer(
        accelerator="cpu", strategy="ddp", devices=2, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=results,
    )  # fmt: skip
    module = Module()
    arguments = {"batch_size": 4, "shuffle": True, "num_workers": 1}
    loader = AlnairJobDataLoader(dataset, **arguments, lookahead=5) if ours else DataLoader(dataset, **arguments)
    trainer.fit(module, loader)
    return module.model.seen, trainer.train_dataloader


def accelerate(dataset, ours, results, **configuration):
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.utils import set_seed

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**configuration))
    set_seed(3)
    loader = accelerator.prepare(DataLoader(dataset, batch_size=4, shuffle=True, num_workers=1))
    if ours:
        loader = alnair.attach(loader, lookahead=5)
    return [batch["index"].tolist() for _ in range(2) for batch in loader], getattr(loader, "base_dataloader", loader)


def accelerate_seedable(dataset, ours, results):
    return accelerate(dataset, ours, results, use_seedable_sampler=True)


def transformers(dataset, ours, results):
    from transformers import Trainer, TrainingArguments

    class AheadTrainer(Trainer):
        def get_train_dataloader(self):
            loader = super().get_train_dataloader()
            self.used = alnair.attach(loader, lookahead=5) if ours else loader
            return self.used

    model = Model()
    arguments = TrainingArguments(
        output_dir=results, per_device_train_batch_size=4, num_train_epochs=2, use_cpu=True, report_to=[], seed=3,
        save_strategy="no", disable_tqdm=True, dataloader_num_workers=1, remove_unused_columns=False,
    )  # fmt: skip
    trainer = AheadTrainer(model=model, args=arguments, train_dataset=dataset)
    trainer.train()
    return model.seen, trainer.used.base_dataloader


def torchdata(dataset, ours, results, distributed=True):
    from torchdata.stateful_dataloader import StatefulDataLoader
    from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler

    def make(workers):
        arguments = {"shuffle": True, "generator": torch.Generator().manual_seed(3)}
        if distributed:
            arguments = {"sampler": StatefulDistributedSampler(dataset, 2, int(os.environ["RANK"]))}
        loader = StatefulDataLoader(dataset, batch_size=4, num_workers=workers, **arguments)
        return alnair.attach(loader, lookahead=5) if ours else loader

    seen = []
    for workers in (0, 1):
        first = make(workers)
        for number, batch in enumerate(first):
            seen.append(batch["index"].tolist())
            if number == 2:
                break
        loader = make(workers)  # goes on where the other one was
        loader.load_state_dict(first.state_dict())
        seen += [batch["index"].tolist() for _ in range(2) for batch in loader]
    return seen, loader


def torchdata_random(dataset, ours, results):
    return torchdata(dataset, ours, results, distributed=False)


def main(source, results, *frameworks):
    predict = _ahead.predict
    for framework in frameworks:
        predicted, found = [], {}
        _ahead.predict = lambda *arguments: predicted.append(predict(*arguments)) or predicted[-1]  # noqa: B023
        for ours in (False, True):
            seen, loader = globals()[framework](Lengths(source=source), ours, results)
            found["ours" if ours else "pytorch's"] = {
                "seen": seen,
                "class": type(loader).__name__,
                "lookahead": getattr(loader, "lookahead", "none"),
                "predicted": [each is not None for each in predicted],
            }
        with open(os.path.join(results, f"{framework}-{os.environ['RANK']}.json"), "w") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
